$TTL 60
@ SOA ns1.example.org. hostmaster.example.org. 1 3600 600 86400 5
  NS  ns1.example.org.
  MX  10 mx.example.org.
