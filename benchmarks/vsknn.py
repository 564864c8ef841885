"""V-SkNN (Ludewig & Jannach 2018, arXiv:1803.09587): lists by the sessions most like a session, whose newest clicks weigh most.

The strongest simple method of the Transformers4Rec paper's tables. A session's click at place p of l weighs p / l; another session is
as similar as the sum of the weights of the items that both have; of the `N_RECENT` newest ones the `N_NEAREST` most similar ones vote
for their items with their similarity, times log(sessions / sessions with the item). What the session has had is not listed again.
"""

from pathlib import Path

import duckdb

N_RECENT, N_NEAREST = 10_000, 500


def lists(sessions: Path, begin: str, end: str, k: int) -> duckdb.DuckDBPyRelation:
    """Of the sessions (session_id, item_id, place, started_at) that start in [begin, end): `session_id, item_id, rank` from 1 to k,
    by all clicks but the last, from the sessions that started before."""
    con = duckdb.connect()
    con.execute(f"""
        create table session as select * from read_parquet('{sessions}') where started_at < '{end}';
        create table past as
            select session_id, item_id from session where started_at < '{begin}'
            qualify dense_rank() over (order by started_at desc, session_id) <= {N_RECENT};
        create table asked as
            select session_id, item_id, place / (max(place) over (partition by session_id) - 1) as weight
            from session where started_at >= '{begin}'
            qualify place < max(place) over (partition by session_id);
        create table rarity as
            select item_id, ln((select count(distinct session_id) from past) / count(*)) as idf from past group by item_id;
        create table nearest as
            from (
                select asked.session_id, past.session_id as neighbour, sum(weight) as similarity
                from asked join past using (item_id) group by all
            ) qualify row_number() over (partition by session_id order by similarity desc, neighbour desc) <= {N_NEAREST};
    """)
    return con.sql(f"""
        with votes as (
            select nearest.session_id, past.item_id, sum(similarity * idf) as score
            from nearest join past on past.session_id = neighbour join rarity on rarity.item_id = past.item_id
            group by all
        )
        from votes anti join asked using (session_id, item_id)
        select session_id, item_id, row_number() over (partition by session_id order by score desc, item_id) as rank
        qualify rank <= {k}
    """)
