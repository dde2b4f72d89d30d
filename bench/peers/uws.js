// A peer: the fastest WebSocket server of Node, with the least that a hub needs. Subscribers connect
// to /sub/TOPIC; who posts to /pub/TOPIC is answered at once, and the text goes to all of them.
//
//   npm install --prefix bench/peers --no-save @trufflesuite/uws-js-unofficial
//   node bench/peers/uws.js PORT
const uws = require("@trufflesuite/uws-js-unofficial");

const app = uws.App();
app.ws("/sub/:topic", {
  upgrade: (answer, request, context) => {
    answer.upgrade(
      { topic: request.getParameter(0) },
      request.getHeader("sec-websocket-key"),
      request.getHeader("sec-websocket-protocol"),
      request.getHeader("sec-websocket-extensions"),
      context,
    );
  },
  open: (socket) => socket.subscribe(socket.topic ?? socket.getUserData().topic),
});
app.post("/pub/:topic", (answer, request) => {
  const topic = request.getParameter(0);
  let body = Buffer.alloc(0);
  answer.onAborted(() => {});
  answer.onData((part, last) => {
    body = Buffer.concat([body, Buffer.from(part)]);
    if (last) {
      app.publish(topic, body, false, false);
      answer.end("ok");
    }
  });
});
app.listen("127.0.0.1", Number(process.argv[2]), (socket) => {
  if (!socket) process.exit(1);
});
