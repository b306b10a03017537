"use strict";
// serve.js HOW PORT ADDRESS PORT: as serve.py, in the one thread of node, with a connection for each call. `node`: it calls as soon as it has read;
// `node-agent`: the same by an agent; `node-waits`: between a request and the call there is time for others.

const http = require("http");
const [, , how, port, to, toPort] = process.argv;
const agent = how === "node-agent" ? new http.Agent({ keepAlive: false }) : false;

function serve(request, response) {
    const failed = (e) => {
        response.writeHead(502);
        response.end(String(e));
    };
    const answered = (answer) => {
        const parts = [];
        answer.on("data", (part) => parts.push(part));
        answer.on("error", failed);
        answer.on("end", () => {
            const body = Buffer.concat(parts);
            response.writeHead(200, { "Content-Length": body.length });
            response.end(body);
        });
    };
    const call = () => http.get({ host: to, port: toPort, path: request.url, agent }, answered).on("error", failed);
    if (how === "node-waits") {
        setTimeout(call, 2);
    } else {
        call();
    }
}

http.createServer(serve).listen({ host: "::", port, backlog: 1024 });
