DROP TABLE zmsg_members;
