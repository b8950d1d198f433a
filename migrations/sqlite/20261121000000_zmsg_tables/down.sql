DROP TABLE zmsg_inbox;
DROP TABLE zmsg_tasks;
DROP TABLE zmsg_task_counts;
DROP TABLE zmsg_dead_letters;
DROP TABLE zmsg_ledger;
DROP TABLE zmsg_data;
