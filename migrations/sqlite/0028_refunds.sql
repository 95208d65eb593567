-- What was given back of a purchase, up to all that is paid of it, and the VAT in that.
ALTER TABLE purchases ADD COLUMN refunded BIGINT NOT NULL DEFAULT 0 CHECK (refunded BETWEEN 0 AND paid);
ALTER TABLE purchases ADD COLUMN refunded_vat BIGINT NOT NULL DEFAULT 0 CHECK (refunded_vat BETWEEN 0 AND vat_amount);
UPDATE purchases SET refunded = paid, refunded_vat = vat_amount WHERE status = 'refunded';

-- What of a payment left through the gateway again: all of a card's, asked for by us, or what of one that the gateway gave
-- back by itself a refund has taken into the book.
ALTER TABLE gateway_payments ADD COLUMN refund_amount BIGINT NOT NULL DEFAULT 0 CHECK (refund_amount BETWEEN 0 AND amount);
UPDATE gateway_payments SET refund_amount = amount WHERE refund IN ('requested', 'refunded');
