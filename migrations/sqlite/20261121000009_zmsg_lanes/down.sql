DROP TRIGGER zmsg_tasks_rejoined;
DROP TRIGGER zmsg_tasks_joined;
DROP INDEX zmsg_tasks_lanes;
ALTER TABLE zmsg_task_counts DROP COLUMN lane_number;
ALTER TABLE zmsg_tasks DROP COLUMN lane_skips;
ALTER TABLE zmsg_tasks DROP COLUMN lane_number;
ALTER TABLE zmsg_tasks DROP COLUMN lane;
ALTER TABLE zmsg_tasks DROP COLUMN deadline_ms;
ALTER TABLE zmsg_tasks DROP COLUMN timeout_ms;
