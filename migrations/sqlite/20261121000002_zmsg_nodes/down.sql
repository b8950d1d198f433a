DROP TABLE zmsg_node;
DROP TABLE zmsg_node_layout;
