"""Denoisers, one file each: two in closed form on numpy (`gaussian`, `memory`), networks in torch.

A network is called `(x_t, t, visible, mask_id) -> prediction`, all (B, L, K); what builds one by
name is `diffusion.networks`. `closed_form` stands both of the former among the networks. Importing
this package imports neither.
"""
