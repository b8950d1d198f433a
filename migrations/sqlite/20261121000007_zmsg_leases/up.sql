-- Which call has leased a task: a worker whose answer was lost asks for what it got.
ALTER TABLE zmsg_tasks ADD COLUMN lease_token BLOB;
