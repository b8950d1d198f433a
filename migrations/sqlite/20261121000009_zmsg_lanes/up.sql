-- What a task says of itself: how long an attempt may take, until when it is wanted, and the lane in
-- which it keeps its place.
--
-- Of a lane only the first task falls due. Those behind it have their due time in `lane_due_ms` and
-- stand at the end of time meanwhile, so that a lease need not pass over them, however many there are.
-- Triggers see to it.
ALTER TABLE zmsg_tasks ADD COLUMN timeout_ms INTEGER;
ALTER TABLE zmsg_tasks ADD COLUMN deadline_ms INTEGER;
ALTER TABLE zmsg_tasks ADD COLUMN lane TEXT;
ALTER TABLE zmsg_tasks ADD COLUMN lane_number INTEGER;
ALTER TABLE zmsg_tasks ADD COLUMN lane_skips INTEGER;
ALTER TABLE zmsg_tasks ADD COLUMN lane_due_ms INTEGER;
ALTER TABLE zmsg_task_counts ADD COLUMN lane_number INTEGER NOT NULL DEFAULT 0;
-- A dead letter that is skipped has no place any more.
CREATE INDEX zmsg_tasks_lanes ON zmsg_tasks (queue, lane, lane_number)
  WHERE lane IS NOT NULL AND (state <> 'dead' OR lane_skips = 0);

CREATE TRIGGER zmsg_tasks_joined AFTER INSERT ON zmsg_tasks WHEN NEW.lane IS NOT NULL BEGIN
  UPDATE zmsg_task_counts SET lane_number = lane_number + 1;
  UPDATE zmsg_tasks SET lane_number = (SELECT lane_number FROM zmsg_task_counts) WHERE id = NEW.id;
  UPDATE zmsg_tasks SET lane_due_ms = due_ms, due_ms = 9223372036854775807
  WHERE id = NEW.id AND lane_number > (
    SELECT task.lane_number FROM zmsg_tasks AS task
    WHERE task.queue = NEW.queue AND task.lane = NEW.lane AND (task.state <> 'dead' OR task.lane_skips = 0)
    ORDER BY task.lane_number LIMIT 1);
END;
-- A dead letter that is retried: one that was skipped comes last.
CREATE TRIGGER zmsg_tasks_rejoined AFTER UPDATE OF state ON zmsg_tasks
WHEN NEW.lane IS NOT NULL AND OLD.state = 'dead' AND NEW.state = 'pending' BEGIN
  UPDATE zmsg_task_counts SET lane_number = lane_number + NEW.lane_skips;
  UPDATE zmsg_tasks
  SET lane_number = iif(lane_skips, (SELECT lane_number FROM zmsg_task_counts), lane_number), lane_due_ms = NULL
  WHERE id = NEW.id;
  UPDATE zmsg_tasks SET lane_due_ms = due_ms, due_ms = 9223372036854775807
  WHERE id = NEW.id AND lane_number > (
    SELECT task.lane_number FROM zmsg_tasks AS task
    WHERE task.queue = NEW.queue AND task.lane = NEW.lane AND (task.state <> 'dead' OR task.lane_skips = 0)
    ORDER BY task.lane_number LIMIT 1);
END;
CREATE TRIGGER zmsg_tasks_left AFTER DELETE ON zmsg_tasks WHEN OLD.lane IS NOT NULL BEGIN
  UPDATE zmsg_tasks SET due_ms = lane_due_ms, lane_due_ms = NULL
  WHERE lane_due_ms IS NOT NULL AND state = 'pending' AND id = (
    SELECT task.id FROM zmsg_tasks AS task
    WHERE task.queue = OLD.queue AND task.lane = OLD.lane AND (task.state <> 'dead' OR task.lane_skips = 0)
    ORDER BY task.lane_number LIMIT 1);
END;
CREATE TRIGGER zmsg_tasks_skipped AFTER UPDATE OF state ON zmsg_tasks
WHEN NEW.lane_skips = 1 AND OLD.state <> 'dead' AND NEW.state = 'dead' BEGIN
  UPDATE zmsg_tasks SET due_ms = lane_due_ms, lane_due_ms = NULL
  WHERE lane_due_ms IS NOT NULL AND state = 'pending' AND id = (
    SELECT task.id FROM zmsg_tasks AS task
    WHERE task.queue = OLD.queue AND task.lane = OLD.lane AND (task.state <> 'dead' OR task.lane_skips = 0)
    ORDER BY task.lane_number LIMIT 1);
END;
