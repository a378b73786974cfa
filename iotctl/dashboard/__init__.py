"""`iotctl dashboard`: a local web application over an MQTT broker and a site. See docs/mqtt.md."""
