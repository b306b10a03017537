-- Runs beside the old version: gray lint-sql examples/sql/expand.postgres.sql --dialect postgres
SET lock_timeout = '2s';

CREATE TABLE carts (
    id      bigserial PRIMARY KEY,
    user_id bigint NOT NULL,
    made_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX carts_by_user ON carts (user_id);

ALTER TABLE orders
    ADD COLUMN cart_id bigint,
    ADD COLUMN channel text NOT NULL DEFAULT 'web';

CREATE INDEX CONCURRENTLY orders_by_cart ON orders (cart_id);

UPDATE orders SET cart_id = 0 WHERE id < 1000 AND cart_id IS NULL;
