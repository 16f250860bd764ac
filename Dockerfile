# Airflow on Astro. `astro dev start`, `astro deploy` and this image have never been run by us: no container engine here.
# The runtime's Airflow and the one in pyproject.toml are raised together.
FROM astrocrpublic.azurecr.io/runtime:3.3-2

# The version of the wheel with the Spark jobs (include/environments/*.yaml), uploaded before this image is deployed.
ARG FITNESS_VERSION=0.1.0
ENV FITNESS_VERSION=${FITNESS_VERSION}

# DAGs, plugins and callbacks of deadlines import `include` from here.
ENV PYTHONPATH=/usr/local/airflow

# Which include/environments/<name>.yaml applies: set FITNESS_ENV to dev or prod on the Astro deployment, with
# FITNESS_KAFKA_BOOTSTRAP, FITNESS_JDBC_URL, FITNESS_SQL_USER, FITNESS_CONNECT_URL and FITNESS_USAGE_POLICY_ID.
