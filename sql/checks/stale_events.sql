-- The newest event, where it is older than features.max_age at as_of.
-- Has the data of the last days arrived? If a pause is meant, raise features.max_age.
with
newest as (
    select
        max(event_at) as newest_event_at,
        getvariable('as_of') as as_of,
    from stg_events
),
stale_events as (
    select * from newest
    where newest_event_at < as_of - getvariable('max_age')
)
select * from stale_events
