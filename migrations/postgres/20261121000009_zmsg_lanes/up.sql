-- What a task says of itself: how long an attempt may take, until when it is wanted, and the lane in
-- which it keeps its place.
--
-- Of a lane only the first task falls due. Those behind it have their due time in `lane_due_ms` and
-- stand at the end of time meanwhile, so that a lease need not pass over them, however many there are.
-- Triggers see to it, under a lock of the lane that is held until the commit: within a lane numbers are in
-- the order of the commits, and whoever leaves it finds the next.
ALTER TABLE zmsg_tasks
  ADD COLUMN timeout_ms  bigint,
  ADD COLUMN deadline_ms bigint,
  ADD COLUMN lane        text,
  ADD COLUMN lane_number bigint,
  ADD COLUMN lane_skips  boolean,
  ADD COLUMN lane_due_ms bigint;
CREATE SEQUENCE zmsg_lane_numbers;
-- A dead letter that is skipped has no place any more.
CREATE INDEX zmsg_tasks_lanes ON zmsg_tasks (queue, lane, lane_number)
  WHERE lane IS NOT NULL AND (state <> 'dead' OR NOT lane_skips);

CREATE FUNCTION zmsg_lane_join() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
  first bigint;
BEGIN
  PERFORM pg_advisory_xact_lock(hashtextextended(NEW.queue || chr(31) || NEW.lane, 0));
  IF TG_OP = 'INSERT' OR NEW.lane_skips THEN
    NEW.lane_number := nextval('zmsg_lane_numbers');
  END IF;
  SELECT task.lane_number INTO first FROM zmsg_tasks AS task
  WHERE task.queue = NEW.queue AND task.lane = NEW.lane AND (task.state <> 'dead' OR NOT task.lane_skips)
  ORDER BY task.lane_number LIMIT 1;
  NEW.lane_due_ms := NULL;
  IF first < NEW.lane_number THEN
    NEW.lane_due_ms := NEW.due_ms;
    NEW.due_ms := 9223372036854775807;
  END IF;
  RETURN NEW;
END $$;

CREATE FUNCTION zmsg_lane_leave() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
  PERFORM pg_advisory_xact_lock(hashtextextended(OLD.queue || chr(31) || OLD.lane, 0));
  UPDATE zmsg_tasks AS next SET due_ms = next.lane_due_ms, lane_due_ms = NULL
  WHERE next.lane_due_ms IS NOT NULL AND next.state = 'pending' AND next.id = (
    SELECT task.id FROM zmsg_tasks AS task
    WHERE task.queue = OLD.queue AND task.lane = OLD.lane AND (task.state <> 'dead' OR NOT task.lane_skips)
    ORDER BY task.lane_number LIMIT 1);
  RETURN NULL;
END $$;

CREATE TRIGGER zmsg_tasks_joined BEFORE INSERT ON zmsg_tasks FOR EACH ROW
  WHEN (NEW.lane IS NOT NULL) EXECUTE FUNCTION zmsg_lane_join();
-- A dead letter that is retried: one that was skipped comes last.
CREATE TRIGGER zmsg_tasks_rejoined BEFORE UPDATE OF state ON zmsg_tasks FOR EACH ROW
  WHEN (NEW.lane IS NOT NULL AND OLD.state = 'dead' AND NEW.state = 'pending')
  EXECUTE FUNCTION zmsg_lane_join();
CREATE TRIGGER zmsg_tasks_left AFTER DELETE ON zmsg_tasks FOR EACH ROW
  WHEN (OLD.lane IS NOT NULL) EXECUTE FUNCTION zmsg_lane_leave();
CREATE TRIGGER zmsg_tasks_skipped AFTER UPDATE OF state ON zmsg_tasks FOR EACH ROW
  WHEN (NEW.lane_skips AND OLD.state <> 'dead' AND NEW.state = 'dead')
  EXECUTE FUNCTION zmsg_lane_leave();
