DROP TABLE zmsg_dead_letters;
DROP TABLE zmsg_ledger;
DROP TABLE zmsg_data;
