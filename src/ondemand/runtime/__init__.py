"""Running models: from a worker folder to an object that takes arrays and gives arrays.

``base``       what the processor asks of a model, whatever runs it
``manifest``   ``worker.toml``: what a worker folder promises
``problems``   what is wrong with a folder, in words for the person who has to mend it
``files``      the folder's files, read once and checked by their SHA-256
``signature``  what was promised, compared with what is there
``onnx_scan``  what an ONNX file may not contain, found without loading it
``cpu``        how many processors a container really has
``execution_providers``  processor or GPU: what was asked for, and what there is
``onnx``       ONNX Runtime: the only module that imports it
``transform``  a model team's own code around its model
``golden``     requests whose replies are known
``package``    a whole worker folder, loaded, or checked before it is released
``scaffold``   a new worker folder for a model that somebody has

The runtime knows no broker.
"""
