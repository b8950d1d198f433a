DROP TABLE zmsg_flushes;
