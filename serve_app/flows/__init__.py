"""Flows over the deployments' handles, one module a system; none needs Ray to be tested."""
