import random
r = random.Random(1)
words = {}
for i in range(60000):
    words[r.getrandbits(40)] = str(i) * 4
keys = list(words)
print(len(keys))
