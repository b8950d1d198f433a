DROP TABLE zmsg_periodic;
