// One client's connection: reads requests one after the other, answers each, and watches while it
// answers whether the client is still there. Runs on the I/O thread only and ends by itself.
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/thread_pool.hpp>

#include "server/http_server.h"
#include "server/server_context.h"

namespace crible {

struct ConnectionHost {
  ServerContext& context;
  const HttpLimits& limits;
  boost::asio::thread_pool& worker;
  boost::asio::thread_pool& admin;
};

// host must outlive the I/O thread's run.
void serve_connection(boost::asio::ip::tcp::socket socket, ConnectionHost& host);

}  // namespace crible
