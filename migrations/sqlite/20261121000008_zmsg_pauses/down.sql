DROP TABLE zmsg_paused_queues;
