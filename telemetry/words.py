"""Names of attributes in traces. Those of OpenTelemetry are written out here, so that they stay as they are.

The conventions for generative AI are still in development and have changed names before: whoever reads our
traces should not have to follow. Values are sizes, names and outcomes; never a prompt, a program, an output, or
anything else that a caller or a model wrote.
"""

# Of OpenTelemetry, general.
HTTP_METHOD = "http.request.method"
HTTP_ROUTE = "http.route"
HTTP_STATUS = "http.response.status_code"
ERROR_TYPE = "error.type"
QUEUE = "messaging.destination.name"

# Of OpenTelemetry, for generative AI.
GEN_AI_OPERATION = "gen_ai.operation.name"
GEN_AI_PROVIDER = "gen_ai.provider.name"
GEN_AI_REQUEST_MODEL = "gen_ai.request.model"
GEN_AI_RESPONSE_MODEL = "gen_ai.response.model"
GEN_AI_FINISH = "gen_ai.response.finish_reasons"
GEN_AI_MAX_TOKENS = "gen_ai.request.max_tokens"
GEN_AI_TEMPERATURE = "gen_ai.request.temperature"
GEN_AI_INPUT_TOKENS = "gen_ai.usage.input_tokens"
GEN_AI_OUTPUT_TOKENS = "gen_ai.usage.output_tokens"

#: The operation of all our calls.
CHAT = "chat"

# Ours.
JOB_ID = "retort.job.id"
REQUEST_ID = "retort.request.id"
ATTEMPT = "retort.attempt"
ROUND = "retort.round"
STATE = "retort.state"
VERDICT = "retort.verdict"
LANGUAGE = "retort.language"
PROFILE = "retort.profile"
RUNTIME = "retort.runtime"
IMAGE = "retort.image"
START = "retort.sandbox.start"
REUSED = "retort.sandbox.reused"
CONTAINER = "retort.sandbox.container"
WAITED_S = "retort.model.waited_s"
COST_USD = "retort.model.cost_usd"
RETRY = "retort.model.retry"
CALL_STATUS = "retort.model.status"
