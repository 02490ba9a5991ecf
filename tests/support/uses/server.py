"""PostgreSQL's driver, which MLflow's server loads by its name."""

import psycopg2

assert psycopg2.apilevel == "2.0"
