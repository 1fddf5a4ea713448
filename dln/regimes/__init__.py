"""Regimes"""
