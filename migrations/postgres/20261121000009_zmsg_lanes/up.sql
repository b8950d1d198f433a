-- What a task says of itself: how long an attempt may take, until when it is wanted, and the lane in
-- which it keeps its place. Numbers are given under a lock of the lane that its enqueuers hold until they
-- commit, so that within a lane they are in the order of the commits.
ALTER TABLE zmsg_tasks
  ADD COLUMN timeout_ms  bigint,
  ADD COLUMN deadline_ms bigint,
  ADD COLUMN lane        text,
  ADD COLUMN lane_number bigint,
  ADD COLUMN lane_skips  boolean;
CREATE SEQUENCE zmsg_lane_numbers;
CREATE INDEX zmsg_tasks_lanes ON zmsg_tasks (queue, lane, lane_number) WHERE lane IS NOT NULL;
