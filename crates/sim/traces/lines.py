# Lines for sort: a random key, and text behind it.
import random
r = random.Random(1)
for i in range(30000):
    print("%010x" % r.getrandbits(40), "".join(r.choices("abcdefghij klmnop", k=290)))
