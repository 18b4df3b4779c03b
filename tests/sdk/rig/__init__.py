"""The parts that the tests are put together from: replicas, proxies, clients."""
