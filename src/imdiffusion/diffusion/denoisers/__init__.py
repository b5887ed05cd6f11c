"""Denoisers, one file each: two in closed form on numpy (`gaussian`, `memory`), networks in torch.

A network is called `(x_t, t, visible, mask_id) -> prediction`, all (B, L, K); what builds one by
name is `diffusion.networks`. Importing this package imports neither.
"""
