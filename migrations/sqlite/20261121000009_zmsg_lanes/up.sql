-- What a task says of itself: how long an attempt may take, until when it is wanted, and the lane in
-- which it keeps its place. Triggers number the tasks of lanes.
ALTER TABLE zmsg_tasks ADD COLUMN timeout_ms INTEGER;
ALTER TABLE zmsg_tasks ADD COLUMN deadline_ms INTEGER;
ALTER TABLE zmsg_tasks ADD COLUMN lane TEXT;
ALTER TABLE zmsg_tasks ADD COLUMN lane_number INTEGER;
ALTER TABLE zmsg_tasks ADD COLUMN lane_skips INTEGER;
ALTER TABLE zmsg_task_counts ADD COLUMN lane_number INTEGER NOT NULL DEFAULT 0;
CREATE INDEX zmsg_tasks_lanes ON zmsg_tasks (queue, lane, lane_number) WHERE lane IS NOT NULL;
CREATE TRIGGER zmsg_tasks_joined AFTER INSERT ON zmsg_tasks WHEN NEW.lane IS NOT NULL BEGIN
  UPDATE zmsg_task_counts SET lane_number = lane_number + 1;
  UPDATE zmsg_tasks SET lane_number = (SELECT lane_number FROM zmsg_task_counts) WHERE id = NEW.id;
END;
-- A dead letter that its lane did not wait for comes last.
CREATE TRIGGER zmsg_tasks_rejoined AFTER UPDATE OF state ON zmsg_tasks
WHEN OLD.state = 'dead' AND NEW.state = 'pending' AND NEW.lane_skips = 1 BEGIN
  UPDATE zmsg_task_counts SET lane_number = lane_number + 1;
  UPDATE zmsg_tasks SET lane_number = (SELECT lane_number FROM zmsg_task_counts) WHERE id = NEW.id;
END;
