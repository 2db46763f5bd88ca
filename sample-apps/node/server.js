// OpenEG's Node.js server, in small: an answer, its health and its metrics. No package is needed for it.
const http = require("node:http");

// From the files that the Vault agent writes; the start script loads them.
const SETTINGS = ["MONGODB_URI", "MONGODB_USER", "REDIS_URL", "REDIS_PASSWORD"];
const BOUNDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]; // seconds

const requests = new Map(); // labels -> how many
const seconds = new Map(); // labels -> { buckets, sum, count }

function count(method, path, status, took) {
  const labels = `service="nodejs-server",method="${method}",path="${path}"`;
  const counted = `${labels},status="${status}"`;
  requests.set(counted, (requests.get(counted) ?? 0) + 1);
  const histogram = seconds.get(labels) ?? { buckets: BOUNDS.map(() => 0), sum: 0, count: 0 };
  seconds.set(labels, histogram);
  BOUNDS.forEach((bound, index) => (histogram.buckets[index] += took <= bound ? 1 : 0));
  histogram.sum += took;
  histogram.count += 1;
}

// The text format that Prometheus reads.
function exposition() {
  const lines = ["# HELP http_requests_total Requests answered.", "# TYPE http_requests_total counter"];
  requests.forEach((value, labels) => lines.push(`http_requests_total{${labels}} ${value}`));
  lines.push("# HELP http_request_duration_seconds Time to answer.", "# TYPE http_request_duration_seconds histogram");
  seconds.forEach(({ buckets, sum, count }, labels) => {
    const bucket = (bound, value) => lines.push(`http_request_duration_seconds_bucket{${labels},le="${bound}"} ${value}`);
    buckets.forEach((value, index) => bucket(BOUNDS[index], value));
    bucket("+Inf", count);
    lines.push(`http_request_duration_seconds_sum{${labels}} ${sum}`);
    lines.push(`http_request_duration_seconds_count{${labels}} ${count}`);
  });
  return lines.join("\n") + "\n";
}

const json = (value) => ["application/json", JSON.stringify(value)];
const routes = {
  "/": () => json({ service: "nodejs-server" }),
  // Alive, and which settings there are: never what they say.
  "/health": () =>
    json({ status: "ok", configured: Object.fromEntries(SETTINGS.map((name) => [name, Boolean(process.env[name])])) }),
  "/metrics": () => ["text/plain; version=0.0.4; charset=utf-8", exposition()],
};

const server = http.createServer((request, response) => {
  const began = process.hrtime.bigint();
  const path = request.url.split("?", 1)[0];
  const status = !Object.hasOwn(routes, path) ? 404 : request.method === "GET" ? 200 : 405;
  const [type, body] = status === 200 ? routes[path]() : json({ status: http.STATUS_CODES[status] });
  response.writeHead(status, { "content-type": type });
  response.end(body);
  // The route, not the URL: strangers must not make up series.
  const [method, route] = status === 200 ? [request.method, path] : ["other", "other"];
  count(method, route, status, Number(process.hrtime.bigint() - began) / 1e9);
});

server.listen(process.env.PORT ?? 3000, "0.0.0.0");

// Answer what has been asked, take nothing new, and end.
process.on("SIGTERM", () => server.close(() => process.exit(0)));
