"""The two ways gateways speak. Pure: a request becomes a JSON object, answers become a `Reply`."""
