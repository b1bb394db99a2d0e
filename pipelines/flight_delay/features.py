"""The features of the flight delay model, as Feast objects.

One definition, three readers: the point-in-time join of a training set, the materialisation to the
online store, the lookup that serves a request. Names are unique over all views, so that no view's
name has to be part of a feature's name.

A TTL says for how long a value still describes the world. It is counted from the event time, in
training and in serving alike.
"""

from __future__ import annotations

import os
from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field, FileSource, RequestSource, ValueType
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Float64, Int64, String

from pipelines.flight_delay import transforms

DATA = os.environ["ZEROSKEW_DATA"] + "/flight_delay"

# --- entities: what a feature can be about -------------------------------------------------------

origin = Entity(
    name="origin",
    join_keys=["origin"],
    value_type=ValueType.STRING,
    description="airport of departure: EWR, JFK or LGA",
)
carrier = Entity(
    name="carrier",
    join_keys=["carrier"],
    value_type=ValueType.STRING,
    description="IATA code of the airline, such as UA",
)
dest = Entity(
    name="dest",
    join_keys=["dest"],
    value_type=ValueType.STRING,
    description="airport of arrival, such as LAX",
)
route = Entity(
    name="route",
    join_keys=["route"],
    value_type=ValueType.STRING,
    description="origin and destination, such as EWR-LAX",
)
tailnum = Entity(
    name="tailnum",
    join_keys=["tailnum"],
    value_type=ValueType.STRING,
    description="registration of the aircraft, such as N14228",
)


def _source(name: str, created: str = "") -> FileSource:
    return FileSource(
        name=name,
        path=f"{DATA}/{name}.parquet",
        timestamp_field="event_timestamp",
        created_timestamp_column=created,
    )


def _fields(kind: object, *names: str) -> list[Field]:
    return [Field(name=name, dtype=kind) for name in names]  # type: ignore[arg-type]


weather_source = _source("weather", created="created_timestamp")
airport_delays_source = _source("airport_delays")
carrier_delays_source = _source("carrier_delays")
carrier_origin_delays_source = _source("carrier_origin_delays")
route_delays_source = _source("route_delays")
aircraft_delays_source = _source("aircraft_delays")
planes_source = _source("planes")
airlines_source = _source("airlines")
airports_source = _source("airports")
destinations_source = _source("destinations")

# --- what changes by the minute or the hour ------------------------------------------------------

weather = FeatureView(
    name="weather",
    entities=[origin],
    ttl=timedelta(hours=3),  # one or two missed observations are bridged, an outage is not
    schema=_fields(
        Float64,
        "temperature",
        "dew_point",
        "humidity",
        "wind_east",
        "wind_north",
        "wind_speed",
        "wind_gust",
        "precipitation",
        "pressure",
        "visibility",
    ),
    source=weather_source,
)

airport_delays = FeatureView(
    name="airport_delays",
    entities=[origin],
    # The night is quiet: the first flights of a morning have no "last hours", and get nulls
    # instead of what the airport was like before midnight.
    ttl=timedelta(hours=2),
    schema=[
        *_fields(Int64, "airport_departures_1h", "airport_overdue"),
        *_fields(
            Float64,
            "airport_dep_delay_1h",
            "airport_late_share_1h",
            "airport_dep_delay_3h",
            "airport_late_share_3h",
        ),
    ],
    source=airport_delays_source,
)

# The same file under a longer TTL: what yesterday was like still says something in the morning.
airport_day = FeatureView(
    name="airport_day",
    entities=[origin],
    ttl=timedelta(hours=12),
    schema=[
        *_fields(Int64, "airport_departures_24h"),
        *_fields(Float64, "airport_dep_delay_24h", "airport_late_share_24h"),
    ],
    source=airport_delays_source,
)

carrier_delays = FeatureView(
    name="carrier_delays",
    entities=[carrier],
    ttl=timedelta(hours=12),
    schema=[
        *_fields(Int64, "carrier_arrivals_3h"),
        *_fields(
            Float64,
            "carrier_arr_delay_3h",
            "carrier_late_share_3h",
            "carrier_arr_delay_24h",
            "carrier_late_share_24h",
        ),
    ],
    source=carrier_delays_source,
)

carrier_origin_delays = FeatureView(
    name="carrier_origin_delays",
    entities=[carrier, origin],
    ttl=timedelta(hours=4),
    schema=[
        *_fields(Int64, "carrier_origin_departures_3h", "carrier_origin_overdue"),
        *_fields(Float64, "carrier_origin_dep_delay_3h", "carrier_origin_late_share_3h"),
    ],
    source=carrier_origin_delays_source,
)

# --- what changes by the day ---------------------------------------------------------------------

route_delays = FeatureView(
    name="route_delays",
    entities=[route],
    ttl=timedelta(days=30),
    schema=[
        *_fields(Int64, "route_arrivals_7d"),
        *_fields(
            Float64,
            "route_arr_delay_7d",
            "route_late_share_7d",
            "route_arr_delay_30d",
            "route_late_share_30d",
        ),
    ],
    source=route_delays_source,
)

aircraft_delays = FeatureView(
    name="aircraft_delays",
    entities=[tailnum],
    ttl=timedelta(days=3),
    schema=[
        *_fields(Int64, "aircraft_landings_24h", "aircraft_last_landed"),
        *_fields(
            Float64, "aircraft_last_arr_delay", "aircraft_last_block", "aircraft_arr_delay_7d"
        ),
    ],
    source=aircraft_delays_source,
)

# --- what stays: no TTL --------------------------------------------------------------------------

planes = FeatureView(
    name="planes",
    entities=[tailnum],
    ttl=timedelta(0),
    schema=[
        *_fields(Int64, "plane_year", "plane_seats", "plane_engines"),
        *_fields(String, "plane_manufacturer", "plane_model", "plane_engine"),
    ],
    source=planes_source,
)

airlines = FeatureView(
    name="airlines",
    entities=[carrier],
    ttl=timedelta(0),
    schema=_fields(String, "airline"),
    source=airlines_source,
)

airports = FeatureView(
    name="airports",
    entities=[origin],
    ttl=timedelta(0),
    schema=_fields(String, "airport"),
    source=airports_source,
)

destinations = FeatureView(
    name="destinations",
    entities=[dest],
    ttl=timedelta(0),
    schema=[
        *_fields(String, "destination"),
        *_fields(Float64, "dest_latitude", "dest_longitude"),
    ],
    source=destinations_source,
)

# --- what the request brings, and what is computed from it ---------------------------------------

timetable = RequestSource(
    name="timetable",
    schema=_fields(
        Int64,
        "scheduled_departure",
        "scheduled_minute",
        "scheduled_weekday",
        "scheduled_block",
        "distance",
    ),
)

scheduled_time = on_demand_feature_view(
    sources=[timetable],
    schema=[
        *_fields(Float64, "hour_sine", "hour_cosine"),
        *_fields(String, "weekday"),
        *_fields(Int64, "is_weekend"),
    ],
    mode="python",
)(transforms.scheduled_time)

planned_flight = on_demand_feature_view(
    sources=[timetable],
    schema=_fields(Float64, "log_distance", "planned_block", "planned_padding"),
    mode="python",
)(transforms.planned_flight)

aircraft_readiness = on_demand_feature_view(
    sources=[timetable, aircraft_delays],
    schema=_fields(Float64, "aircraft_idle", "aircraft_slack"),
    mode="python",
)(transforms.aircraft_readiness)

# --- what the model reads ------------------------------------------------------------------------

flight_delay = FeatureService(
    name="flight_delay",
    features=[
        weather,
        airport_delays,
        airport_day,
        carrier_delays,
        carrier_origin_delays,
        route_delays,
        aircraft_delays,
        planes,
        airlines,
        airports,
        destinations,
        scheduled_time,
        planned_flight,
        aircraft_readiness,
    ],
)
