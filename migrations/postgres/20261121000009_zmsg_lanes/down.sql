DROP TRIGGER zmsg_tasks_skipped ON zmsg_tasks;
DROP TRIGGER zmsg_tasks_left ON zmsg_tasks;
DROP TRIGGER zmsg_tasks_rejoined ON zmsg_tasks;
DROP TRIGGER zmsg_tasks_joined ON zmsg_tasks;
DROP FUNCTION zmsg_lane_leave();
DROP FUNCTION zmsg_lane_join();
DROP INDEX zmsg_tasks_lanes;
DROP SEQUENCE zmsg_lane_numbers;
UPDATE zmsg_tasks SET due_ms = lane_due_ms WHERE lane_due_ms IS NOT NULL;
ALTER TABLE zmsg_tasks
  DROP COLUMN timeout_ms,
  DROP COLUMN deadline_ms,
  DROP COLUMN lane,
  DROP COLUMN lane_number,
  DROP COLUMN lane_skips,
  DROP COLUMN lane_due_ms;
