"""The requesting side: publish a request, await its reply. In the order a request meets them:

``client``       ``PredictionClient``: what a service calls
``request``      what is asked, checked and encoded
``connection``   the tie to the broker: is the topic there, are replies being read
``presence``     listens to workers announcing themselves: does anybody serve this model
``directory``    who is alive, as far as they have said (pure)
``claims``       bodies that no record may hold: into the object store, and out of it
``exchange``     registers, publishes, times: one exchange for each request
``correlation``  which waiter a reply belongs to (pure)
``replies``      the one task that reads replies
``prediction``   what the caller gets: a prediction, or the error that says why not
``many``         ``predict_many``: a bounded number of exchanges under way
``sync``         ``SyncPredictionClient``: all of this without asyncio
"""

from ondemand.client.client import PredictionClient
from ondemand.client.prediction import ClientStats, Outcome, Prediction, Receipt
from ondemand.client.request import Inputs, RequestOptions
from ondemand.client.sync import SyncPredictionClient

__all__ = [
    "ClientStats",
    "Inputs",
    "Outcome",
    "Prediction",
    "PredictionClient",
    "Receipt",
    "RequestOptions",
    "SyncPredictionClient",
]
