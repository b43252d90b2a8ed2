"""`coatcheck bench`: how fast sessions are on your machine and your database.

Everything runs in a new database or file, which is removed afterwards. Other data is not touched.
"""
