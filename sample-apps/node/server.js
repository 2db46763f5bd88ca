// OpenEG's Node.js server, in small.
const http = require("node:http");

http
  .createServer((request, response) => {
    response.writeHead(request.url === "/health" ? 200 : 404, { "content-type": "application/json" });
    response.end(JSON.stringify({ status: request.url === "/health" ? "ok" : "not found" }));
  })
  .listen(3000);
