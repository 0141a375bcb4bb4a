# ruff: noqa
"""Names that vulture takes for dead code, and who uses them. Never run; ``make lint`` reads it."""

# pytest: hooks, marks, and fixtures that every test of a file has.
pytestmark
pytest_collection_modifyitems
_handlers
_no_worker_is_left
_on_the_cpu
_one_thread
new_connections

# Attributes that a library reads.
_.AudioMetaData
_.block_on_close
_.close_connection
_.daemon_threads
_.doc_string
_.donated_buffer
_.inter_op_num_threads
_.intra_op_num_threads
_.linkname
_.log_severity_level
_.log_with
_.mtime
_.pax_headers
_.protocol_version
_.request_queue_size
_.showwarning
_.storage_options
_.yaml_implicit_resolvers

# Methods that the standard library or libsndfile calls.
_.do_DELETE
_.do_GET
_.do_HEAD
_.do_POST
_.do_PUT
_.handle_data
_.handle_endtag
_.handle_startendtag
_.handle_starttag
_.log_message
_.readable
_.readinto
_.seekable
_.trace
WriteableBuffer
__getattr__

# Fields that are read by position, by name in a string, or by a template.
_.cache_bypasses
_.feature_matching
_.last_use
_.pairs_per_second
_.start_seconds
_.stranger_refused
controller_port
node_port
processors

# Functions that a test names in the program of another process.
growth_of_shared_memory
hang
