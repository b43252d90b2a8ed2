-- Another token with each request, out of the file that BENCH_TOKENS names; the figures as one line of JSON.
local tokens = {}
for line in io.lines(os.getenv("BENCH_TOKENS")) do tokens[#tokens + 1] = line end
local as_cookie = os.getenv("BENCH_AS_COOKIE") == "1"
local position = 0

function request()
  position = position % #tokens + 1
  local token = tokens[position]
  local headers = as_cookie and { Cookie = "theme=dark; __Host-coatcheck=" .. token } or { Authorization = "Bearer " .. token }
  return wrk.format("GET", "/", headers)
end

function done(summary, latency, _)
  local errors = summary.errors
  io.write(string.format(
    '{"operations": %d, "seconds": %f, "p50_us": %f, "p99_us": %f, "failures": %d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50), latency:percentile(99),
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
