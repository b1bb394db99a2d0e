"""A small model for the tests: two views, one of them with a created column, one on-demand view."""

import os
from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field, FileSource, RequestSource, ValueType
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Float64, Int64, String

from . import transforms

DATA = os.environ["ZEROSKEW_DATA"] + "/tickets"

agent = Entity(name="agent", join_keys=["agent"], value_type=ValueType.INT64)
customer = Entity(name="customer", join_keys=["customer"], value_type=ValueType.STRING)

agents = FeatureView(
    name="agents",
    entities=[agent],
    ttl=timedelta(days=2),
    schema=[Field(name="agent_load", dtype=Float64), Field(name="agent_solved", dtype=Int64)],
    source=FileSource(
        name="agents",
        path=f"{DATA}/agents.parquet",
        timestamp_field="event_timestamp",
        created_timestamp_column="created",
    ),
)
customers = FeatureView(
    name="customers",
    entities=[customer],
    ttl=timedelta(0),
    schema=[Field(name="product", dtype=String), Field(name="seats", dtype=Int64)],
    source=FileSource(
        name="customers", path=f"{DATA}/customers.parquet", timestamp_field="event_timestamp"
    ),
)
text = RequestSource(name="text", schema=[Field(name="words", dtype=Int64)])
length = on_demand_feature_view(
    sources=[text], schema=[Field(name="log_words", dtype=Float64)], mode="python"
)(transforms.length)

tickets = FeatureService(name="tickets", features=[agents, customers, length])
