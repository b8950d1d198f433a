DROP TABLE zmsg_filter_state;
