"""A workspace on one machine: speaks the Databricks API and really runs the jobs it is given.

`states` decides (pure), `store` remembers (SQLite), `runner` is one attempt's own process, `engine` moves runs along,
`jobs_api`, `sql_api` and `platform_api` speak Databricks, `pages` speaks to people.
"""
