"""One run or model looked into: distributions, gates, update order, fitted start, and the page that holds them."""
