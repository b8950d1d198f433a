DROP TABLE conversations;
DROP TABLE users;
DROP TABLE messages;
