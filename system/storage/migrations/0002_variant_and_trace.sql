-- The defaults stay: a replica of the release before goes on writing rows without these columns while it is replaced.
-- Every row from before was answered by the fp32 graph.
ALTER TABLE predictions
    ADD COLUMN variant  text NOT NULL DEFAULT 'fp32',
    ADD COLUMN trace_id text NOT NULL DEFAULT '';
