ALTER TABLE zmsg_tasks DROP COLUMN lease_token;
