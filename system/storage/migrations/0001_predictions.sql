CREATE TABLE predictions (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    request_id    text        NOT NULL,
    at            timestamptz NOT NULL,
    replica       text        NOT NULL,
    model_version text        NOT NULL,
    label         text        NOT NULL,
    probabilities real[]      NOT NULL,
    input_sha256  bytea       NOT NULL CHECK (octet_length(input_sha256) = 32),
    media_type    text        NOT NULL,
    duration_ms   real        NOT NULL
);

CREATE INDEX predictions_at ON predictions (at);
