DROP TABLE zmsg_inbox;
DROP TABLE zmsg_tasks;
