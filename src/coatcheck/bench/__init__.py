"""`coatcheck bench`: how fast sessions are on your machine and your database.

Everything runs in a database or file that is made for it and removed afterwards; nothing else is touched.
"""
