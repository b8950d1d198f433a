DROP INDEX zmsg_tasks_lanes;
DROP SEQUENCE zmsg_lane_numbers;
ALTER TABLE zmsg_tasks
  DROP COLUMN timeout_ms,
  DROP COLUMN deadline_ms,
  DROP COLUMN lane,
  DROP COLUMN lane_number,
  DROP COLUMN lane_skips;
