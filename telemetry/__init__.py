"""What processes of ours tell of themselves while they run: metrics to be scraped, traces to be sent."""
