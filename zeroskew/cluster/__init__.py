"""What a person does with a cluster from outside: looks at rollouts, monitors, and asks for acts.

What belongs here reads and annotates objects over the API server, by the official client. What
the operator does about them is decided in zeroskew/rollout and zeroskew/monitoring.
"""
