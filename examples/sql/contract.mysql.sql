-- For when the old version is gone; beside it each of these is refused: gray lint-sql examples/sql/contract.mysql.sql --dialect mysql
ALTER TABLE orders MODIFY COLUMN cart_id BIGINT NOT NULL;
ALTER TABLE orders DROP COLUMN old_state;
ALTER TABLE orders ADD UNIQUE INDEX one_cart (cart_id);
DROP TABLE baskets;
